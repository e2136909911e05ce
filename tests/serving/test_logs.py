"""What the server logs of requests: λ, tokens and status, and nothing that users wrote."""


def test_a_request_is_logged_without_its_text(server, caplog):
    caplog.set_level("DEBUG", logger="mull")
    secret = [{"role": "user", "content": "my secret 31337: what is 1 + 2?"}]
    body = {"model": "mull@0.7", "messages": secret, "max_tokens": 4, "temperature": 0}
    answer = server.post("/v1/chat/completions", body).json()
    assert server.post("/v1/chat/completions", {**body, "n": 0}).status_code == 400
    said = [record.getMessage() for record in caplog.records if record.name == "mull.serving.router"]
    assert said == [
        f"{answer['id']}: λ = 0.7, {answer['usage']['prompt_tokens']} prompt tokens",
        "chat: status 200",
        "chat: status 400",
    ]
    assert "31337" not in caplog.text
