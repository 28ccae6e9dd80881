// DiceBear avatars as PNG files. Run in a folder where `npm install @dicebear/core@9 @dicebear/collection@9 @resvg/resvg-js` was run:
//   node doctor_avatars.mjs list > styles.json        what each style lets one choose
//   node doctor_avatars.mjs draw < jobs.json          [[style, options, side in pixels, file], ...]
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const here = createRequire(`${process.cwd()}/`);
const load = async (name) => import(pathToFileURL(here.resolve(name)).href);
const styles = await load('@dicebear/collection');

if (process.argv[2] === 'list') {
  const choices = {};
  for (const [name, style] of Object.entries(styles)) {
    const properties = Object.entries(style.schema?.properties ?? {});
    choices[name] = Object.fromEntries(
      properties.map(([key, value]) => [key, { values: value.items?.enum ?? null, preset: value.default ?? null }]),
    );
  }
  process.stdout.write(JSON.stringify(choices));
} else {
  const { createAvatar } = await load('@dicebear/core');
  const { Resvg } = here('@resvg/resvg-js');
  for (const [style, options, side, file] of JSON.parse(fs.readFileSync(0, 'utf8'))) {
    const svg = createAvatar(styles[style], options).toString();
    fs.writeFileSync(file, new Resvg(svg, { fitTo: { mode: 'width', value: side } }).render().asPng());
  }
}
