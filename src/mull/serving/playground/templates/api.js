  // The server's API: one streamed chat completion. `on` is called with each chunk; errors are worded for the reader.
  class Refusal extends Error {
    constructor(status, text) {
      super(text);
      this.status = status;
    }
  }

  const refusal = async (reply) => {
    let said = "";
    try { said = (await reply.json()).error.message; } catch { /* no JSON: something else than this server answered */ }
    const wait = reply.headers.get("retry-after");
    const again = wait ? ` Try again in ${wait} s.` : " Try again soon.";
    const what = {
      401: "This server asks for an API key, and it is missing or wrong. Give it beside the settings.",
      429: `The server is busy${said ? `: ${said}` : ""}.${again}`,
      503: `The server cannot answer now${said ? `: ${said}` : ""}.${again}`,
    }[reply.status];
    const kind = reply.status >= 500 ? "The server failed" : "The server refused the request";
    return new Refusal(reply.status, what ?? `${kind}${said ? `: ${said}` : ` (HTTP ${reply.status})`}.`);
  };

  const BROKEN = "The answer broke off: the connection to the server was lost.";

  const complete = async (body, key, signal, on) => {
    const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
    const options = { method: "POST", headers, body: JSON.stringify(body), signal };
    const reply = await fetch("v1/chat/completions", options).catch(() => {
      throw new Refusal(0, "The server cannot be reached. Is it still running?");
    });
    if (!reply.ok) throw await refusal(reply);
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { done, value } = await reader.read().catch(() => ({ done: true }));
      if (done) throw new Refusal(0, BROKEN);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const text = event.slice("data: ".length);
        if (text === "[DONE]") return;
        const chunk = JSON.parse(text);
        if (chunk.error) throw new Refusal(0, `The server broke off: ${chunk.error.message}.`);
        on(chunk);
      }
    }
  };
