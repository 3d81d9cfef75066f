// Keeps the states and problems of a project's domains fresh. Without it the page is still whole, as of its making.
"use strict";
(() => {
  const list = document.querySelector('[data-live="domains"]');
  const pause = 5000;

  const update = (domain) => {
    const card = list.querySelector(`[data-domain="${domain.id}"]`);
    if (!card) return;
    const state = card.querySelector('[data-part="state"]');
    if (state.textContent !== domain.state) {
      state.className = "state " + domain.state;
      state.textContent = domain.state;
    }
    card.querySelector('[data-part="problem"]').textContent = domain.problem; // never markup: it quotes a stranger's DNS
  };

  const look = async () => {
    if (!document.hidden) {
      try {
        const answer = await fetch(`/api/domains/projects/${list.dataset.project}`);
        if (answer.ok) (await answer.json()).items.forEach(update);
      } catch {
        // The platform restarts, or the line is down: the next look tells.
      }
    }
    setTimeout(look, pause);
  };

  if (list.querySelector("[data-domain]")) setTimeout(look, pause);
})();
