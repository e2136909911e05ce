"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const root = document.documentElement;

{% include "theme.js" %}

  // Responses. Text only ever enters the page as text, never as markup.
  const data = JSON.parse($("data").textContent);
  if (!data.responses.length) return;
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const option = (value, text) => {
    const element = make("option", "", text);
    element.value = value;
    return element;
  };
  const fields = ["question", "setting", "index", "thought", "answer", "kind", "tokens", "finish", "correct", "extracted"];
  const table = new Map();
  const indices = new Set();
  for (const row of data.responses) {
    const response = Object.fromEntries(fields.map((name, i) => [name, row[i]]));
    if (!table.has(response.question)) table.set(response.question, []);
    table.get(response.question).push(response);
    indices.add(response.index);
  }
  const order = [...indices].sort((a, b) => a - b);
  const state = { question: 0, index: order[0], settings: new Set(data.defaults) };
  const find = (question, setting, index) =>
    table.get(question).find((r) => r.setting === setting && r.index === index);

  const strata = [...new Set(data.questions.map((q) => q.stratum))].filter(Boolean);
  $("stratum").append(option("", "any"), ...strata.map((s) => option(s, s)));
  $("stratum").parentElement.hidden = strata.length < 2;

  const outcome = (question) => {
    const all = table.get(question).map((r) => r.correct);
    return all.every(Boolean) ? "right" : all.some(Boolean) ? "mixed" : "wrong";
  };
  // Open where there is something to see: the first question and sample on which the settings side by side differ.
  const differs = (question, index) => new Set(data.defaults.map((s) => find(question, s, index)?.correct)).size > 1;
  search: for (const index of order) {
    for (let i = 0; i < data.questions.length; i++) {
      if (differs(i, index)) { Object.assign(state, { question: i, index }); break search; }
    }
  }
  let shown = [];
  const filter = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [stratum, wanted] = [$("stratum").value, $("outcome").value];
    shown = data.questions.map((q, i) => i).filter((i) => {
      const q = data.questions[i];
      const text = `${q.id} ${q.text} ${q.gold}`.toLowerCase();
      return (!stratum || q.stratum === stratum) && (!wanted || outcome(i) === wanted) && words.every((w) => text.includes(w));
    });
    $("matches").textContent = `(${shown.length} of ${data.questions.length})`;
    $("question").replaceChildren(...shown.map((i) => {
      const q = data.questions[i];
      const line = q.text.replace(/\s+/g, " ");
      return option(i, `${q.id}  ${line.length > 90 ? line.slice(0, 89) + "…" : line}`);
    }));
    if (shown.length && !shown.includes(state.question)) state.question = shown[0];
    draw();
  };

  const mark = (correct) => (correct ? "✓" : "✗");
  const matrix = () => {
    const head = make("tr");
    head.append(make("th", "", ""), ...order.map((i) => {
      const th = make("th", "", String(i + 1));
      th.scope = "col";
      return th;
    }));
    head.firstChild.append(make("span", "visually-hidden", "setting"));
    const rows = data.settings.map((name, setting) => {
      const row = make("tr");
      const th = make("th", "", name);
      th.scope = "row";
      row.append(th, ...order.map((index) => {
        const cell = make("td");
        const response = find(state.question, setting, index);
        if (!response) return cell;
        const b = make("button", response.correct ? "right" : "wrong", mark(response.correct));
        b.type = "button";
        b.setAttribute("aria-label", `${name}, sample ${index + 1}: ${response.correct ? "right" : "wrong"}; show it`);
        if (index === state.index && state.settings.has(setting)) b.classList.add("shown");
        b.addEventListener("click", () => {
          state.index = index;
          state.settings.add(setting);
          chips();
          draw();
          $("matrix").rows[setting + 1].cells[order.indexOf(index) + 1].firstChild.focus();
        });
        cell.append(b);
        return cell;
      }));
      return row;
    });
    const thead = make("thead");
    thead.append(head);
    const tbody = make("tbody");
    tbody.append(...rows);
    $("matrix").replaceChildren(make("caption", "", "✓ right, ✗ wrong, by sample: choose one to read it"), thead, tbody);
  };

  const block = (className, title, text, empty) => {
    const pre = make("pre", text ? className : `${className} empty`, text || empty);
    pre.tabIndex = 0;
    pre.setAttribute("aria-label", title);
    return [make("h4", className, title), pre];
  };
  const card = (setting, longest) => {
    const article = make("article", "card");
    const response = find(state.question, setting, state.index);
    const head = make("header");
    head.append(make("h3", "", data.settings[setting]));
    article.append(head);
    if (!response) {
      article.append(make("p", "meta", "Not sampled yet."));
      return article;
    }
    head.append(make("span", `badge ${response.correct ? "right" : "wrong"}`, response.correct ? "✓ correct" : "✗ wrong"));
    const finish = response.finish === "stop" ? "ended by itself" : response.finish === "length" ? "cut off at the token limit" : response.finish;
    const extracted = response.extracted ? ` · answered ${response.extracted}` : " · no answer found";
    article.append(make("p", "meta", `${response.tokens.toLocaleString("en")} tokens · ${finish}${extracted}`));
    const length = make("div", "length");
    const fill = make("i");
    fill.style.width = `${(100 * response.tokens) / longest}%`;
    length.setAttribute("aria-hidden", "true");
    length.append(fill);
    article.append(length);
    if (response.kind !== "none") {
      article.append(...block("thought", response.kind === "closed" ? "Thought" : `Thought (${response.kind})`, response.thought, "(empty)"));
    }
    article.append(...block("answer", response.kind === "none" ? "Answer, without a thought" : "Answer", response.answer, "(none)"));
    return article;
  };

  const draw = () => {
    const none = !shown.length;
    for (const id of ["asked", "matrix", "cards"]) $(id).hidden = none;
    $("previous").disabled = $("next").disabled = shown.length < 2;
    if (none) return;
    $("question").value = state.question;
    if (!table.get(state.question).some((r) => r.index === state.index)) state.index = order[0];
    const q = data.questions[state.question];
    const meta = make("p", "meta");
    meta.append("gold answer ", make("b", "", q.gold), ` · ${[q.stratum, q.id].filter(Boolean).join(" · ")} · sample `, make("b", "", String(state.index + 1)));
    $("asked").replaceChildren(make("div", "text", q.text), meta);
    matrix();
    const chosen = data.settings.map((_, i) => i).filter((i) => state.settings.has(i));
    const longest = Math.max(1, ...chosen.map((s) => find(state.question, s, state.index)?.tokens ?? 0));
    $("cards").replaceChildren(...chosen.map((setting) => card(setting, longest)));
  };

  const chips = () => {
    $("settings").replaceChildren(...data.settings.map((name, setting) => {
      const box = make("input");
      box.type = "checkbox";
      box.checked = state.settings.has(setting);
      box.addEventListener("change", () => {
        if (box.checked) state.settings.add(setting); else state.settings.delete(setting);
        draw();
      });
      const wrap = make("label");
      wrap.append(box, make("span", "", name));
      return wrap;
    }));
  };

  const step = (by) => {
    const at = shown.indexOf(state.question);
    state.question = shown[(at + by + shown.length) % shown.length];
    draw();
  };
  $("search").addEventListener("input", filter);
  $("stratum").addEventListener("change", filter);
  $("outcome").addEventListener("change", filter);
  $("question").addEventListener("change", () => { state.question = Number($("question").value); draw(); });
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("browser").hidden = false;
  chips();
  filter();
})();
