export function blow() {
  document.body.dataset.wind = 'west';
}
