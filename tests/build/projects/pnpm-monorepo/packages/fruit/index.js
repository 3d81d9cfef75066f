export function describe(name) {
  return `A ripe ${name}`;
}
