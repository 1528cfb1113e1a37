// PKCE (RFC 7636): the site's backend gets the result only with the verifier, which this page alone has.

import { sha256 } from './sha256.js';

/** 256 random bits as 43 characters, which is also the shortest verifier there may be. */
export function verifier(): string {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

/** The S256 challenge of a verifier. */
export function challenge(of: string): string {
  return base64url(sha256(of));
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=/g, '');
}
