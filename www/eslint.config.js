import js from "@eslint/js";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";

export default ts.config(
  { ignores: ["dist/", "node_modules/", "test-results/"] },
  js.configs.recommended,
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: {
      // Types are svelte-check's affair.
      "no-undef": "off",
      "@typescript-eslint/no-unused-vars": ["error", { varsIgnorePattern: "^_", argsIgnorePattern: "^_" }],
    },
  },
  {
    // One clock, one source of randomness.
    files: ["src/**"],
    ignores: ["src/host/ambient.ts"],
    rules: {
      "no-restricted-properties": [
        "error",
        ...[["Date", "now"], ["performance", "now"], ["Math", "random"], ["crypto", "getRandomValues"], ["crypto", "randomUUID"]].map(
          ([object, property]) => ({ object, property, message: "Ask the host's ambient." }),
        ),
      ],
      "no-restricted-syntax": ["error", { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: "Ask the host's ambient." }],
    },
  },
  { files: ["**/*.svelte", "**/*.svelte.ts"], languageOptions: { parserOptions: { parser: ts.parser } } },
);
