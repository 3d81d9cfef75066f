export default function Missing() {
  return <h1>No such tide</h1>;
}
