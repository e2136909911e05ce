  // The measured curves, a marker at each λ in use, and what that λ costs and gains.
  const FRAME = { width: 330, height: 108, left: 36, right: 10, top: 10, bottom: 20 };
  const points = data.measured?.points ?? [];
  const panels = [];

  // The two measured λ around `lam`, which may be one.
  const around = (lam) => {
    const after = points.findIndex((p) => p.lambda >= lam - 1e-9);
    if (after === -1) return [points.at(-1), points.at(-1)];
    const exact = after === 0 || Math.abs(points[after].lambda - lam) < 1e-9;
    return [points[exact ? after : after - 1], points[after]];
  };

  // The next number that is easy to read on an axis.
  const round = (most) => {
    const power = 10 ** Math.floor(Math.log10(most));
    return power * [1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((each) => each * power >= most);
  };

  const panel = (name, title, scale, unit) => {
    const { width, height, left, right, top, bottom } = FRAME;
    const known = points.filter((p) => p[name][0] !== null);
    const x = (lam) => left + lam * (width - left - right);
    const reach = (p, sign) => scale * (p[name][0] + sign * 1.96 * (p[name][1] ?? 0));
    const most = unit === "%" ? 100 : round(Math.max(1, ...known.map((p) => reach(p, 1))));
    const y = (value) => height - bottom - (Math.min(most, Math.max(0, value)) / most) * (height - top - bottom);
    const listed = known.map((p) => `${number(scale * p[name][0])} ${unit} at ${p.lambda}`).join(", ");
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} by λ: ${listed}` });
    const label = (text, at, down, anchor) => draw("text", { x: at, y: down, "text-anchor": anchor }, text);
    const stage = data.measured.stage2;
    if (stage) svg.append(draw("rect", { class: "stage", x: x(stage[0]), y: top, width: x(stage[1]) - x(stage[0]), height: height - top - bottom }));
    for (const share of [0, 0.5, 1]) {
      svg.append(
        draw("line", { class: "grid", x1: left, x2: width - right, y1: y(share * most), y2: y(share * most) }),
        label(number(share * most), left - 6, y(share * most) + 3.5, "end"),
        label(String(share), x(share), height - 5, "middle"),
      );
    }
    const path = known.map((p) => `${x(p.lambda)},${y(scale * p[name][0])}`).join(" ");
    svg.append(draw("polyline", { class: "curve", points: path }));
    for (const p of known) {
      svg.append(
        draw("line", { class: "error", x1: x(p.lambda), x2: x(p.lambda), y1: y(reach(p, -1)), y2: y(reach(p, 1)) }),
        draw("circle", { class: "point", cx: x(p.lambda), cy: y(scale * p[name][0]), r: 2.6 }),
      );
    }
    const markers = draw("g");
    svg.append(markers);
    panels.push((marks) => markers.replaceChildren(...marks.flatMap(({ lam, slot }) => {
      const [a, b] = around(lam);
      const share = a === b ? 0 : (lam - a.lambda) / (b.lambda - a.lambda);
      const value = scale * (a[name][0] + share * (b[name][0] - a[name][0]));
      const line = draw("line", { class: `marker slot${slot}`, x1: x(lam), x2: x(lam), y1: top, y2: height - bottom });
      const inside = lam >= points[0].lambda && lam <= points.at(-1).lambda;
      return inside ? [line, draw("circle", { class: `marker slot${slot}`, cx: x(lam), cy: y(value), r: 4.5 })] : [line];
    })));
    return make("figure", {}, make("figcaption", { textContent: title }), svg);
  };

  const worth = (lam) => {
    const [a, b] = around(lam);
    if (a === b && Math.abs(a.lambda - lam) < 1e-9) return a.words;
    if (a === b) return `${shown(lam)} lies outside the measured λ; the nearest: ${a.short}.`;
    return `${shown(lam)} was not measured; its neighbours were. ${a.short}. ${b.short}.`;
  };

  // `marks`: the λ in use, or null where auto has not chosen yet, with the number of its setting.
  const mark = (marks) => {
    if (!points.length) return;
    const known = marks.filter(({ lam }) => lam !== null);
    for (const place of panels) place(known);
    $("words").replaceChildren(...marks.map(({ lam, slot }) => {
      const text = lam === null ? "auto: λ is chosen for each question, and the reply says which." : worth(lam);
      return make("p", { className: `worth slot${slot}`, textContent: bound(text) });
    }));
  };

  if (points.length) {
    $("measured").open = !matchMedia("(max-width: 56rem)").matches;
    $("curves").append(
      panel("accuracy", "Right answers, %", 100, "%"),
      panel("think", "Responses that think (Think #R), %", 100, "%"),
      panel("tokens", "Tokens per response", 1, "tokens"),
    );
  }
