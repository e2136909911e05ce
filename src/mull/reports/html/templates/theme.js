  // Theme: the system's, until the reader chooses.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const button = $("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
  };
  const remembered = (() => { try { return localStorage.getItem("mull-theme"); } catch { return null; } })();
  if (remembered === "dark" || remembered === "light") root.dataset.theme = remembered;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("mull-theme", root.dataset.theme); } catch { /* a file may have no storage */ }
    label();
  });
  dark.addEventListener("change", label);
  label();
