// Follows one deployment: new log lines, its state, its steps. Without it the page is still whole, as of its making.
"use strict";
(() => {
  const log = document.querySelector('[data-live="log"]');
  const state = document.querySelector('[data-live="state"]');
  const steps = document.querySelector('[data-live="steps"]');
  const final = ["ready", "failed", "cancelled", "skipped"];

  const span = (name, text) => {
    const made = document.createElement("span");
    made.className = name;
    made.textContent = text; // never markup: a build prints whatever it likes
    return made;
  };

  const show = (line) => {
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
    const row = document.createElement("div");
    row.className = line.stream;
    row.append(span("number", line.number), span("step", line.step), span("text", line.text));
    log.append(row);
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  };

  const update = (deployment) => {
    state.className = "state " + deployment.state;
    state.textContent = deployment.state;
    for (const step of steps.children) {
      const seconds = deployment.step_seconds[step.dataset.step];
      if (seconds !== undefined) {
        step.className = "done";
        step.lastElementChild.textContent = seconds.toFixed(1) + " s";
      } else if (step.dataset.step === deployment.step) {
        step.className = "now";
      }
    }
  };

  log.scrollTop = log.scrollHeight;
  const events = new EventSource(`/api/deployments/${log.dataset.deployment}/logs?after=${log.dataset.after}`);
  events.addEventListener("line", (event) => show(JSON.parse(event.data)));
  events.addEventListener("state", (event) => {
    const deployment = JSON.parse(event.data);
    update(deployment);
    if (final.includes(deployment.state)) {
      events.close();
      location.reload(); // addresses, failure and buttons, as the server shows them
    }
  });
})();
