"""Names as Ollama reads them, and that case does not tell models apart."""

import pytest

from ollama_mcp.ollama_server import installed_models as models


@pytest.mark.parametrize(
    ("name", "short", "full"),
    [
        ("llama3.2", "llama3.2:latest", "registry.ollama.ai/library/llama3.2:latest"),
        ("library/x:1b", "x:1b", "registry.ollama.ai/library/x:1b"),
        ("me/x", "me/x:latest", "registry.ollama.ai/me/x:latest"),
        ("h:5000/me/x", "h:5000/me/x:latest", "h:5000/me/x:latest"),
        ("hf.co/me/x:Q4_K_M", "hf.co/me/x:Q4_K_M", "hf.co/me/x:Q4_K_M"),
        ("http://127.0.0.1:5/library/x:1", "127.0.0.1:5/library/x:1", "127.0.0.1:5/library/x:1"),
    ],
)
def test_names_have_a_short_and_a_full_form(name, short, full):
    assert models.is_valid(name)
    assert (models.short_name(name), models.full_name(name)) == (short, full)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "../x",
        "../../etc/passwd",
        "x:",
        "/x",
        "a//b",
        "x\n",
        ":",
        "x" * 81,
        "a/b/c/d/../x",
        "x:y/z w",
        "a.b/x",
    ],
)
def test_names_that_are_none_are_invalid(name):
    assert not models.is_valid(name)


@pytest.mark.parametrize(
    "name", ["SmolLM2:135M", "library/smollm2:135m", "Registry.Ollama.AI/library/smollm2:135m"]
)
def test_a_model_is_found_by_every_spelling_of_its_name(name):
    installed = {"smollm2:135m": models.Model("smollm2:135m"), "Mine:Q4": models.Model("Mine:Q4")}
    assert models.find_model(installed, name) is installed["smollm2:135m"]
    assert models.find_model(installed, "mine:q4") is installed["Mine:Q4"]
    assert models.find_model(installed, "smollm2") is models.find_model(installed, "") is None
