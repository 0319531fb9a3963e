// Loads the data beside this page. A page opened from a disk may load scripts but fetch nothing, so each shard is a
// script that calls kyara.take(name, gzip in base64).
"use strict";
const kyara = { waiting: {}, loaded: {} };

kyara.take = (name, packed) => kyara.waiting[name](kyara.unpack(packed));

kyara.unpack = (packed) => {
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(packed) : Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
};

kyara.load = (name) => kyara.loaded[name] ??= new Promise((resolve, reject) => {
  kyara.waiting[name] = resolve;
  const script = document.createElement("script");
  script.src = `data/${name}.js`;
  script.onload = () => script.remove();
  script.onerror = () => reject(new Error(`${script.src} is missing; write the report again`));
  document.head.append(script);
});

// The same rule as shards.bucket_of.
kyara.bucket = (key, buckets) => {
  let state = 0;
  for (const byte of new TextEncoder().encode(key)) state = (31 * state + byte) % 65521;
  return state % buckets;
};
