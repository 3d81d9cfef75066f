export default function Home() {
  return <h1>Tides of {process.env.NEXT_PUBLIC_VCLONE_PROJECT}</h1>;
}
