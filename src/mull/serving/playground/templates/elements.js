  // Elements. Text only ever enters the page as text, never as markup.
  const make = (tag, properties = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name in element) element[name] = value; else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const number = (value, digits = 0) =>
    value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const counted = (tokens) => `${number(tokens)} ${tokens === 1 ? "token" : "tokens"}`;
  const bound = (text) => text.replaceAll("λ = ", "λ\u00a0=\u00a0").replaceAll(" %", "\u00a0%");
  const shown = (lam) => `λ = ${Number(lam.toFixed(3))}`;
