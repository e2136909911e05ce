  // The conversation: each turn is one question and an answer of every setting.
  const turns = [];
  let underWay = null;
  state.asked = "";

  const tell = (text) => { $("status").textContent = text; };
  const seconds = (ms) => `${number(ms / 1000, 1)} s`;

  // What a setting is sent of the turns before: questions and answers, never thoughts.
  const before = (slot) => turns.flatMap(({ question, replies }) => {
    const { answer } = replies[Math.min(slot, replies.length - 1)];
    return answer.trim() ? [{ role: "user", content: question }, { role: "assistant", content: answer }] : [];
  });

  // The card of one reply; `show` draws what came since.
  const replyCard = (setting, slot, many) => {
    const name = make("h3", { textContent: (many ? `${letter(slot)}: ` : "") + described(setting) });
    const how = make("span", { className: "badge", textContent: "…" });
    const meta = make("p", { className: "meta" });
    const thought = make("pre", { tabIndex: 0, "aria-label": "Thought" });
    const fold = make("details", { className: "thought", open: !state.folded, hidden: true }, make("summary", { textContent: "Thought" }), thought);
    fold.querySelector("summary").addEventListener("click", () => { state.folded = fold.open; });
    const answer = make("div", { className: "answer", hidden: true });
    const none = make("p", { className: "unanswered empty", hidden: true, textContent: "No answer." });
    const card = make("article", { className: `card reply slot${slot}` }, make("header", {}, name, how), meta, fold, answer, none);
    card.setAttribute("aria-busy", "true");
    const reply = { setting, slot, many, card, thought: "", answer: "", mull: null, usage: null, finish: null, first: null, began: performance.now() };
    reply.show = () => {
      fold.hidden = !reply.thought;
      const low = thought.scrollHeight - thought.scrollTop - thought.clientHeight < 30;
      if (thought.textContent !== reply.thought) thought.textContent = reply.thought;
      if (low) thought.scrollTop = thought.scrollHeight;
      if (answer.textContent !== reply.answer) answer.textContent = reply.answer;
      answer.hidden = !reply.answer;
      none.hidden = reply.answer || !reply.finish;
      const time = (reply.ended ?? performance.now()) - reply.began;
      if (reply.mull) name.textContent = (many ? `${letter(slot)}: ` : "") + shown(reply.mull.lambda);
      meta.textContent = [tokens(reply), seconds(time), came(reply)].filter(Boolean).join(" · ");
    };
    reply.end = (badge, kind = "") => {
      reply.ended = performance.now();
      how.textContent = badge;
      how.className = `badge ${kind}`;
      card.setAttribute("aria-busy", "false");
      reply.show();
    };
    reply.fail = (text) => {
      reply.end("failed", "wrong");
      card.append(make("p", { className: "banner", role: "alert", textContent: text }));
    };
    return reply;
  };

  const tokens = ({ usage, first, began, ended }) => {
    if (!usage && first === null) return ended ? "" : "waiting";
    if (!usage) return `first text after ${seconds(first - began)}`;
    const all = usage.completion_tokens, thought = usage.completion_tokens_details?.reasoning_tokens ?? 0;
    return thought ? `${counted(all)}: ${number(thought)} of thought, ${number(all - thought)} of answer` : `${counted(all)}, no thought`;
  };
  const came = ({ mull, setting }) => {
    if (!mull) return "";
    const parts = [setting.auto ? mull.source : "λ as set"];
    if (mull.cost?.generated) parts.push(`${counted(mull.cost.generated)} to choose`);
    if (typeof mull.budget === "number") parts.push(`budget ${number(mull.budget)}`);
    return parts.join(" · ");
  };
  const FINISHES = { stop: "finished", length: "cut off at the token limit" };

  const atEnd = () => innerHeight + scrollY >= document.documentElement.scrollHeight - 160;
  const follow = (change) => {
    const end = atEnd();
    change();
    if (end) scrollTo({ top: document.documentElement.scrollHeight });
  };

  const answerOne = async (reply, messages, signal) => {
    const { setting } = reply;
    const body = { model: data.model, messages, stream: true, stream_options: { include_usage: true }, lambda: setting.auto ? "auto" : nearest(setting.lam) };
    if (setting.budget !== null) body.thinking_token_budget = setting.budget;
    const timer = setInterval(reply.show, 100);
    try {
      await complete(body, $("key").value, signal, (chunk) => {
        if (chunk.mull) {
          reply.mull = chunk.mull;
          if (setting.auto) { reply.source.used = chunk.mull.lambda; reply.source.show(); changed(); }
        }
        if (chunk.usage) reply.usage = chunk.usage;
        const choice = chunk.choices[0];
        if (!choice) return;
        reply.finish = choice.finish_reason ?? reply.finish;
        const { reasoning, reasoning_content: other, content } = choice.delta;
        if (reasoning || other || content) reply.first ??= performance.now();
        follow(() => {
          reply.thought += reasoning ?? other ?? "";
          reply.answer += content ?? "";
          // What was told as a thought has turned out to be the answer, and came once more as that.
          if (chunk.mull?.corrected && reply.answer.trim().startsWith(reply.thought.trim())) reply.thought = "";
          reply.show();
        });
      });
      reply.end(FINISHES[reply.finish] ?? reply.finish ?? "", reply.finish === "length" ? "wrong" : "");
    } catch (error) {
      if (signal.aborted) return reply.end("stopped");
      if (error.status === 401) keyWanted();
      follow(() => reply.fail(error instanceof Refusal ? error.message : "The server's answer could not be read."));
    } finally {
      clearInterval(timer);
    }
  };

  const ask = async () => {
    const question = $("question").value.trim();
    if (underWay || !question) { $("question").focus(); return; }
    const many = state.settings.length > 1;
    const replies = state.settings.map((setting, slot) => replyCard({ ...setting, used: null }, slot, many));
    replies.forEach((reply, slot) => { reply.source = state.settings[slot]; });
    const messages = replies.map(({ slot }) => [...before(slot), { role: "user", content: question }]);
    turns.push({ question, replies });
    state.asked = question;
    $("question").value = "";
    write();
    $("empty").hidden = true;
    const asked = make("div", { className: "question" }, make("h2", { className: "visually-hidden", textContent: `Question ${turns.length}` }), make("div", { className: "text", textContent: question }));
    $("turns").append(make("section", { className: "turn", "aria-label": `Turn ${turns.length}` }, asked, make("div", { className: `replies of${replies.length}` }, ...replies.map((r) => r.card))));
    scrollTo({ top: document.documentElement.scrollHeight });
    const control = underWay = new AbortController();
    busy(true);
    tell("Answering.");
    await Promise.all(replies.map((reply, i) => answerOne(reply, messages[i], control.signal)));
    if (underWay !== control) return;
    underWay = null;
    busy(false);
    tell(replies.filter((r) => r.answer).map((r) => `${r.mull ? shown(r.mull.lambda) : ""}: ${r.answer.slice(0, 300)}`).join(" ") || (control.signal.aborted ? "Stopped." : ""));
  };

  const busy = (yes) => {
    $("send").hidden = yes;
    $("stop").hidden = !yes;
    if (document.activeElement === document.body) $("question").focus();
  };
  const stop = () => underWay?.abort();

  const keyWanted = () => { $("key-form").hidden = false; $("panel").open = true; };
  const kept = (() => { try { return sessionStorage; } catch { return null; } })();
  if (data.keyed) keyWanted();
  $("key").value = kept?.getItem("mull-key") ?? "";
  $("key").addEventListener("input", () => kept?.setItem("mull-key", $("key").value));

  $("key-form").addEventListener("submit", (event) => event.preventDefault());
  $("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  $("question").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });
  $("question").addEventListener("input", remember);
  $("stop").addEventListener("click", stop);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") stop(); });
  $("new").addEventListener("click", () => {
    stop();
    underWay = null;
    busy(false);
    turns.length = 0;
    state.asked = "";
    $("turns").replaceChildren();
    $("empty").hidden = false;
    remember();
    tell("New chat.");
    $("question").focus();
  });
  for (const example of $("empty").querySelectorAll("button")) {
    example.addEventListener("click", () => { $("question").value = example.textContent; ask(); });
  }
  $("share").addEventListener("click", async () => {
    write();
    const done = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    $("share").textContent = done ? "Copied" : "See the address";
    tell(done ? "The link is copied." : "The address of this page is the link.");
    setTimeout(() => { $("share").textContent = "Copy link"; }, 2000);
  });
  window.addEventListener("hashchange", restore);

  restore();
