export { defineDoorbellLogin, DoorbellLogin, setDefaultServer } from './element.js';
export type { Approved } from './element.js';
