"""How the server meets its clients: the standard streams and HTTP."""
