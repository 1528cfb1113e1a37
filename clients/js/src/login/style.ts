// How the element looks by itself. Everything has a part and a custom property, so a site can make it its own.
// Colours meet WCAG AA (4.5 to 1) on their backgrounds in both schemes.

const DARK = `
  --_text: var(--doorbell-color, #f2f2f3);
  --_muted: var(--doorbell-muted-color, #b4b7bd);
  --_surface: var(--doorbell-background, #1d1f23);
  --_line: var(--doorbell-border-color, #7b8089);
  --_accent: var(--doorbell-accent-color, #8ab4ff);
  --_on-accent: var(--doorbell-on-accent-color, #10213d);
  --_error: var(--doorbell-error-color, #ff9c94);
  color-scheme: dark;
`;

export const STYLE = `
:host {
  --_text: var(--doorbell-color, #1c1e21);
  --_muted: var(--doorbell-muted-color, #565b63);
  --_surface: var(--doorbell-background, #ffffff);
  --_line: var(--doorbell-border-color, #80858e);
  --_accent: var(--doorbell-accent-color, #1a56c4);
  --_on-accent: var(--doorbell-on-accent-color, #ffffff);
  --_error: var(--doorbell-error-color, #b3261e);
  color-scheme: light;
  display: inline-block;
  width: 20rem;
  max-width: 100%;
  box-sizing: border-box;
  font: 1rem/1.5 system-ui, sans-serif;
}
@media (prefers-color-scheme: dark) { :host(:not([theme="light"])) { ${DARK} } }
:host([theme="dark"]) { ${DARK} }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
[part="box"] {
  color: var(--_text); background: var(--_surface); border-radius: var(--doorbell-radius, 0.75rem);
  padding: 1.25rem; text-align: center; overflow-wrap: anywhere;
}
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 0.75rem; }
p { margin: 0.75rem 0 0; }
[part="stage"] { position: relative; aspect-ratio: 1; max-width: 16rem; margin: 0 auto; }
[part="qr"] {
  position: absolute; inset: 0; background: var(--doorbell-qr-background, #fff); border-radius: 0.5rem; overflow: hidden;
}
[part="qr"] svg { display: block; width: 100%; height: 100%; fill: var(--doorbell-qr-color, #000); }
[part="image"], [part="page"] { display: block; width: 100%; height: 100%; border: 0; }
/* The width of the page that WeChat makes for frames, a little into the padding. */
[part="stage"][data-page] { aspect-ratio: 3 / 4; max-width: none; margin: 0 -0.625rem; }
[data-page] [part="logo"], [part="image"] ~ [part="logo"] { display: none; }
[part="logo"] {
  position: absolute; inset: 0; margin: auto; width: 20%; height: 20%; display: grid; place-items: center;
  background: var(--doorbell-qr-background, #fff); border-radius: 0.25rem; padding: 0.25rem; overflow: hidden;
}
::slotted([slot="logo"]) { max-width: 100%; max-height: 100%; }
[part="cover"] {
  position: absolute; inset: 0; display: grid; place-items: center; align-content: center;
  border: 1px solid var(--_line); border-radius: 0.5rem; background: var(--_surface);
}
[part="cover"] svg { width: 4rem; height: 4rem; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
[part="number"] { font-size: 2.5rem; line-height: 1.2; font-weight: 700; letter-spacing: 0.15em; margin: 0; }
[part="link"] { color: var(--_muted); min-height: 1.5em; margin-top: 0.25rem; font-size: 0.875rem; }
label { display: block; margin-top: 0.75rem; }
input {
  display: block; margin: 0.5rem auto 0; font: inherit; font-size: 1.5rem; letter-spacing: 0.2em; text-align: center; width: 10rem; max-width: 100%; padding: 0.25rem 0.5rem;
  color: var(--_text); background: var(--_surface); border: 1px solid var(--_line); border-radius: 0.375rem;
}
button {
  font: inherit; font-weight: 600; margin-top: 0.75rem; min-height: 2.75rem; padding: 0.5rem 1.25rem; cursor: pointer;
  color: var(--_on-accent); background: var(--_accent); border: 0; border-radius: 0.375rem;
}
:focus-visible { outline: 3px solid var(--_accent); outline-offset: 2px; }
[part="error"] { color: var(--_error); }
[part="open"] { display: none; margin-top: 0.75rem; font-weight: 600; padding: 0.625rem 0; }
/* Who holds the phone in hand cannot scan its own screen; elsewhere a site shows it with ::part(open). */
@media (pointer: coarse) { [part="open"] { display: inline-block; } }
details { margin-top: 0.75rem; font-size: 0.875rem; }
summary { cursor: pointer; color: var(--_muted); min-height: 1.5rem; }
a { color: var(--_accent); }
code { display: block; font: 600 1.25rem/1.5 ui-monospace, monospace; letter-spacing: 0.1em; }
@media (prefers-reduced-motion: no-preference) {
  [part="cover"] svg[data-kind="busy"] { animation: turn 1.2s linear infinite; }
  @keyframes turn { to { transform: rotate(1turn); } }
}
@media (forced-colors: active) {
  [part="qr"] { forced-color-adjust: none; }
  button { border: 1px solid; }
}
`;
