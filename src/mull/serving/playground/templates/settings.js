  // The settings that answer side by side: λ or auto, and a thinking budget. They are part of the address.
  const first = () => ({ auto: data.default === null && data.auto, lam: data.default ?? 0.5, budget: null, used: null });
  const state = { settings: [first()] };
  const letter = (slot) => "ABCD"[slot];
  const named = (setting) => setting.auto
    ? `auto${setting.used === null ? "" : ` (${shown(setting.used)})`}`
    : shown(setting.lam);
  const described = (setting) => named(setting) + (setting.budget === null ? "" : `, budget ${number(setting.budget)}`);

  const changed = () => {
    mark(state.settings.map((s, slot) => ({ slot, lam: s.auto ? s.used : s.lam })));
    $("in-short").textContent = state.settings.map(described).join(" · ");
    remember();
  };

  const nearest = (lam) => data.only.length ? data.only.reduce((a, b) => Math.abs(b - lam) < Math.abs(a - lam) ? b : a) : lam;

  const slider = (setting, title, update) => {
    const range = make("input", { type: "range", min: 0, max: 1, step: 0.001, "aria-label": `λ${title}` });
    range.addEventListener("input", () => update(Number(range.value)));
    range.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.01, ArrowDown: -0.01, ArrowRight: 0.01, ArrowUp: 0.01, PageDown: -0.1, PageUp: 0.1 }[event.key];
      if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      update(Math.min(1, Math.max(0, Math.round(100 * (setting.lam + step)) / 100)));
    });
    const ticks = make("div", { className: "ticks", "aria-hidden": "true" }, ...data.efforts.map(([, lam]) => {
      const tick = make("i");
      tick.style.left = `${100 * lam}%`;
      return tick;
    }));
    const ends = make("div", { className: "ends", "aria-hidden": "true" }, make("span", { textContent: "Instruct" }), make("span", { textContent: "Thinking" }));
    return [range, make("div", { className: "slider" }, range, ticks, ends)];
  };

  const settingCard = (setting, slot) => {
    const many = state.settings.length > 1;
    const title = many ? ` of setting ${letter(slot)}` : "";
    const value = make("output", { className: "value" });
    const [range, track] = slider(setting, title, (lam) => set({ lam, auto: false }));
    const levels = data.efforts.map(([name, lam]) => {
      const chosen = make("button", { type: "button", className: "level", title: shown(lam) }, name);
      chosen.addEventListener("click", () => set({ lam, auto: false }));
      return [chosen, lam];
    });
    const auto = make("button", { type: "button", className: "level", title: "λ is chosen for each question" }, "auto");
    auto.addEventListener("click", () => set({ auto: true }));
    const budget = make("input", { type: "number", min: 0, max: 1 << 24, step: 1, inputMode: "numeric", placeholder: "none" });
    const unit = make("span", { textContent: "tokens" });
    budget.addEventListener("input", () => {
      const wrong = !budget.validity.valid;
      setting.budget = wrong || budget.value === "" ? null : Number(budget.value);
      budget.setAttribute("aria-invalid", wrong);
      unit.textContent = wrong ? "whole tokens, please" : "tokens";
      unit.classList.toggle("bad", wrong);
      changed();
    });
    budget.value = setting.budget ?? "";
    const show = () => {
      value.textContent = named(setting);
      if (setting.auto) range.setAttribute("aria-valuetext", "auto"); else range.setAttribute("aria-valuetext", shown(setting.lam));
      range.value = setting.auto ? setting.used ?? setting.lam : setting.lam;
      track.classList.toggle("idle", setting.auto);
      auto.setAttribute("aria-pressed", setting.auto);
      for (const [chosen, lam] of levels) chosen.setAttribute("aria-pressed", !setting.auto && Math.abs(lam - setting.lam) < 1e-9);
    };
    const set = (values) => {
      Object.assign(setting, { used: null }, values);
      show();
      changed();
    };
    setting.show = show;
    const head = make("div", { className: "head" }, value);
    if (many) {
      const remove = make("button", { type: "button", className: "quiet", "aria-label": `Remove setting ${letter(slot)}` }, "Remove");
      remove.addEventListener("click", () => arrange(state.settings.filter((s) => s !== setting)));
      head.append(remove);
    }
    show();
    return make("fieldset", { className: `setting slot${slot}` },
      make("legend", { className: many ? "" : "visually-hidden", textContent: many ? `Setting ${letter(slot)}` : "Setting" }),
      head, track,
      make("div", { className: "levels", role: "group", "aria-label": `Levels${title}` }, ...(data.auto ? [auto] : []), ...levels.map(([chosen]) => chosen)),
      make("label", { className: "budget" }, "Thinking budget", budget, unit));
  };

  const arrange = (settings) => {
    state.settings = settings;
    $("settings").replaceChildren(...settings.map(settingCard));
    $("settings").append(make("p", { className: "note", textContent: `Levels: ${data.effortsFrom}.` }));
    $("compare").disabled = settings.length >= data.most;
    changed();
  };

  // A setting to compare with starts where the others are not: at an end, or between.
  $("compare").addEventListener("click", () => {
    const taken = state.settings.filter((s) => !s.auto).map((s) => s.lam);
    const lam = [1, 0, 0.5, 0.75].find((each) => !taken.includes(each)) ?? 0.25;
    arrange([...state.settings, { ...first(), auto: false, lam }]);
    $("settings").querySelectorAll("input[type=range]")[state.settings.length - 1].focus();
  });

  // The address: #lambda=0.6&budget=200&lambda=auto&budget=&q=… Browsers limit how often it may change, so that a
  // dragged slider writes it once, when it rests.
  let resting = 0;
  const remember = () => {
    clearTimeout(resting);
    resting = setTimeout(write, 150);
  };
  const write = () => {
    clearTimeout(resting);
    const query = new URLSearchParams();
    const budgeted = state.settings.some((s) => s.budget !== null);
    for (const setting of state.settings) {
      query.append("lambda", setting.auto ? "auto" : String(setting.lam));
      if (budgeted) query.append("budget", setting.budget ?? "");
    }
    const question = $("question").value || state.asked;
    if (question) query.append("q", question);
    history.replaceState(null, "", `#${query}`);
  };

  const restore = () => {
    const query = new URLSearchParams(location.hash.slice(1));
    const budgets = query.getAll("budget");
    const settings = query.getAll("lambda").slice(0, data.most).map((text, i) => {
      const auto = text === "auto" && data.auto;
      const lam = text === "" ? NaN : Number(text);
      const budget = /^\d{1,7}$/.test(budgets[i] ?? "") ? Number(budgets[i]) : null;
      const given = auto ? { auto } : lam >= 0 && lam <= 1 ? { auto, lam } : {};
      return { ...first(), ...given, budget };
    });
    $("question").value = query.get("q") ?? "";
    arrange(settings.length ? settings : [first()]);
  };
