import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import (
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from ollama_mcp.transports.stdio.framing import Refused, TooLong, decode, encode

any_text = st.text(st.characters(codec=None, exclude_categories=()))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=10,
)


def response(**result: Any) -> JSONRPCResponse:
    return JSONRPCResponse(jsonrpc="2.0", id=1, result=result)


def written(message: JSONRPCMessage) -> dict[str, Any]:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line.decode(), parse_constant=refuse)


def refusal(line: bytes | TooLong) -> JSONRPCError:
    with pytest.raises(Refused) as caught:
        decode(line)
    return caught.value.answer


def code_for(line: bytes) -> int | None:
    try:
        decode(line)
    except Refused as refused:
        return refused.answer.error.code
    return None


@pytest.mark.parametrize(
    "message",
    [
        JSONRPCRequest(jsonrpc="2.0", id=1, method="a", params={"x": [1, "é", None]}),
        JSONRPCRequest(jsonrpc="2.0", id="one", method="a"),
        JSONRPCNotification(jsonrpc="2.0", method="a", params={}),
        JSONRPCResponse(jsonrpc="2.0", id=2, result={"x": 1}),
        JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=-1, message="no")),
    ],
)
def test_what_is_written_can_be_read_as_the_sdk_would(message: JSONRPCMessage):
    line = encode(message)
    assert decode(line) == message == jsonrpc_message_adapter.validate_json(line)


@given(any_json)
def test_every_result_becomes_one_line_of_json(value: Any):
    assert written(response(value=value))["id"] == 1


@given(st.binary())
def test_every_line_is_a_message_or_has_an_answer(line: bytes):
    assert code_for(line) in (None, -32700, -32600)


@given(any_json)
def test_every_json_line_is_a_message_or_has_an_answer(value: Any):
    assert code_for(json.dumps(value).encode()) in (None, -32600)


@given(any_text)
def test_text_goes_out_as_it_is_but_for_lone_surrogates(text: str):
    sent = written(response(text=text))["result"]["text"]
    assert sent == text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    sent.encode()


def test_each_lone_surrogate_becomes_one_replacement_character():
    assert written(response(text="a\ud800b\udc00\ud800"))["result"] == {"text": "a�b��"}


def test_a_number_that_json_lacks_becomes_null_with_and_without_a_surrogate_beside_it():
    values = [math.nan, math.inf, -math.inf, 0.5]
    assert written(response(values=values))["result"]["values"] == [None, None, None, 0.5]
    assert written(response(values=values, text="\ud800"))["result"]["values"] == [None, None, None, 0.5]


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.mark.parametrize("value", [object(), {"\ud800": {1, 2}}, b"\xff", circular()])
def test_a_result_that_cannot_be_written_becomes_an_error_with_its_id(value: Any):
    answer = written(response(value=value))
    assert answer["id"] == 1
    assert answer["error"]["code"] == -32603


def test_a_notification_that_cannot_be_written_is_dropped():
    assert encode(JSONRPCNotification(jsonrpc="2.0", method="a", params=circular())) == b""


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"nonsense", -32700, None),
        (b"{", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"a"} trailing', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":' + b"1" * 6000 + b"}}", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":' + b"[" * 300 + b"]" * 300 + b"}}", -32600, 1),
        (b"[" * 1_000_000, -32600, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b'{"n":' * 5000 + b"1" + b"}" * 5001, -32600, 1),
        (
            b'{"method":"a","params":' + b"[" * 5000 + b"]" * 5000 + b',"jsonrpc":"2.0","id":"one"}',
            -32600,
            "one",
        ),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":[' + b"{}," * 130_000 + b"1]}}", -32600, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"n":"\\"' + b',"' * 600_000, -32600, 1),
        (b'{"result":' + b"[" * 5000 + b"]" * 5000 + b',"jsonrpc":"2.0","id":1}', -32600, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"a"}]', -32600, None),
        (b"1", -32600, None),
        (b"null", -32600, None),
        (b"{}", -32600, None),
        (b'{"id":3,"method":"a"}', -32600, 3),
        (b'{"jsonrpc":"1.0","id":"three","method":"a"}', -32600, "three"),
        (b'{"jsonrpc":"2.0","id":3}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":7}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":3,"method":"a","params":[1]}', -32600, 3),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":7}', -32600, "�"),
        (b'{"jsonrpc":"2.0","id":null,"method":"a"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"a"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"a"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":[1],"method":"a"}', -32600, None),
    ],
)
def test_a_malformed_line_is_refused_with_its_id_if_it_has_one(line: bytes, code: int, request_id: Any):
    answer = refusal(line)
    assert (answer.error.code, answer.id) == (code, request_id)


def test_many_commas_in_a_text_are_not_many_values():
    text = '",[\\' * 300_000
    message = decode(json.dumps({"jsonrpc": "2.0", "method": "a", "params": {"text": text}}).encode())
    assert isinstance(message, JSONRPCNotification)
    assert message.params == {"text": text}


@pytest.mark.parametrize("rest", ['"result":[]', '"error":"no"', '"result":{},"error":{}'])
def test_the_id_of_a_bad_response_is_not_echoed_because_it_is_ours(rest: str):
    assert refusal(f'{{"jsonrpc":"2.0","id":3,{rest}}}'.encode()).id is None


def test_half_an_emoji_in_a_request_is_replaced():
    message = decode(b'{"jsonrpc":"2.0","id":1,"method":"a","params":{"text":"half \\ud83d"}}')
    assert isinstance(message, JSONRPCRequest)
    assert message.params == {"text": "half �"}


def test_a_byte_order_mark_is_ignored():
    assert decode(b'\xef\xbb\xbf{"jsonrpc":"2.0","method":"a"}\r').model_dump(exclude_unset=True) == {
        "jsonrpc": "2.0",
        "method": "a",
    }


@pytest.mark.parametrize(
    ("head", "tail", "request_id"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"a","params":{', b"xxx", 7),
        (b'{"jsonrpc": "2.0", "id": "seven", "method": "a"', b"xxx", "seven"),
        (b'{"method":"a","params":{', b'"},"jsonrpc":"2.0","id":7}', 7),
        (b'{"method":"a","params":{', b'"},"jsonrpc":"2.0","id":"\xff"}', None),
        (b'{"params":{"jsonrpc":"2.0","id":7,', b'"id":8}}', None),
        (b'{"jsonrpc":"2.0","id":7,"result":{', b"xxx", None),
        (b'{"result":{', b'"},"jsonrpc":"2.0","id":7}', None),
        (b'{"jsonrpc":"2.0","method":"a","params":{"id":7,', b"}}", None),
        (b"xxx", b"xxx", None),
    ],
)
def test_the_id_of_a_line_too_long_is_read_where_sdks_write_it(head: bytes, tail: bytes, request_id: Any):
    answer = refusal(TooLong(head, tail, 5000))
    assert (answer.error.code, answer.id) == (-32600, request_id)
    assert "5000 bytes, which is OLLAMA_MCP_MAX_LINE" in answer.error.message
