export const dynamicParams = false;

export function generateStaticParams() {
  return [{ name: 'north' }, { name: 'south' }];
}

export default async function Harbour({ params }) {
  const { name } = await params;
  return <h1>Harbour {name}</h1>;
}
