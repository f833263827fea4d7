"""The graph IR: frozen values, nodes and graphs, a text form, a verifier and an interpreter."""
