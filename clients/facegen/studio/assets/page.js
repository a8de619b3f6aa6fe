// The viewer of meshes puts its canvas before all else in the order of the Tab key, without a name.
new MutationObserver(() => {
  for (const canvas of document.querySelectorAll(".clay canvas:not([aria-label])")) {
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-label", "The head; turn it with the arrow keys");
    canvas.setAttribute("role", "img");
  }
}).observe(document, { childList: true, subtree: true });
