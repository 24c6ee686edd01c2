// Builds dist/resumable-fetch.js and its types, and lays the same file beside the playground's, which have no build of
// their own. Its first line names the sources that it was made of, so that a test can tell when it is old.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

process.chdir(import.meta.dirname);
const { name, version, license } = JSON.parse(readFileSync("package.json", "utf8"));
const vendor = "../../functions/proxy/endpoints/playground_files/vendor";
const built = `dist/${name}.js`;

const sources = createHash("sha256");
for (const file of readdirSync("src").sort()) sources.update(readFileSync(`src/${file}`));
const banner = `/*! ${name} ${version}, ${license}, of sources ${sources.digest("hex")} */`;

execFileSync("node_modules/.bin/tsc", { stdio: "inherit" });
await build({
  entryPoints: ["src/index.ts"],
  outfile: built,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "inline",
  banner: { js: banner },
});

if (process.argv.includes("--for-the-playground")) {
  copyFileSync(built, `${vendor}/${name}/${name}.js`);
  const digest = createHash("sha256").update(readFileSync(built)).digest("hex");
  const list = readFileSync(`${vendor}/README.md`, "utf8");
  const row = `| ${name} | ${version} | ${license} | \`${name}/${name}.js\` | \`${digest}\` |`;
  writeFileSync(`${vendor}/README.md`, list.replace(new RegExp(`\\| ${name} \\|.*`), row));
}
