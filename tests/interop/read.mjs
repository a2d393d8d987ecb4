// Reads a repository with tuf-js: node read.mjs MODULES STATE BASE_URL TARGET...; STATE/metadata/root.json is the pinned root.
// Prints one JSON object, target path -> its bytes as text; on refusal the error's name on stderr, exit code 1.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, state, base, ...targets] = process.argv.slice(2);
const { Updater } = createRequire(join(modules, "package.json"))("tuf-js");
mkdirSync(join(state, "targets"), { recursive: true });
const updater = new Updater({
  metadataDir: join(state, "metadata"),
  metadataBaseUrl: `${base}/metadata`,
  targetDir: join(state, "targets"),
  targetBaseUrl: `${base}/targets`,
  config: { fetchRetry: false, fetchTimeout: 5000 },
});

try {
  await updater.refresh();
  const read = {};
  for (const path of targets) {
    const found = await updater.getTargetInfo(path);
    if (!found) throw new Error(`${path} is signed by no role`);
    read[path] = readFileSync(await updater.downloadTarget(found), "utf8");
  }
  console.log(JSON.stringify(read));
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
}
