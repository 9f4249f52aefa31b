/** Links to a matrix: the part of the address after # names it and the result that it was opened from. */
function addressOf(place, section) {
  return `#matrix=${encodeURIComponent(nameOf(place))}${section ? `&in=${encodeURIComponent(section)}` : ""}`;
}

/** Return the matrix that the address names, and in which result; none where it names none. */
function addressed() {
  if (!location.hash.startsWith("#matrix=")) return null;
  const parts = new URLSearchParams(location.hash.slice(1)), name = parts.get("matrix");
  const place = DATA.names.findIndex((_, i) => nameOf(i) === name);
  return { place, name, section: parts.get("in") };
}

/** Write an address without loading anything; a step of its own, so that Back goes back. */
function goTo(address, step) {
  if (location.hash === address) return;
  try { history[step ? "pushState" : "replaceState"](null, "", address || location.pathname + location.search); } catch {
    // Where a page may not write its address, it goes without.
  }
}

/** Open what the address names; after Back and Forward too. */
function follow() {
  const found = addressed(), missing = byId("missing");
  missing.hidden = true;
  if (found && found.place >= 0) { inspect(found.place, null, found.section); return; }
  if (!byId("inspector").hidden) leave();
  if (!found) return;
  missing.textContent = `This page has no matrix of the name ${found.name}: the link is to another page.`;
  missing.hidden = false;
  missing.scrollIntoView({ block: "center" });
  announce(missing.textContent);
}
