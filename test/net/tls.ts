import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDER = join(import.meta.dirname, '../fixtures/tls');

/** Of localhost, 127.0.0.1, hub.invalid, storage.invalid and proxy.invalid; it signs itself, so it is its own root. */
export const CERTIFICATE = join(FOLDER, 'certificate.pem');

export const TLS = { cert: readFileSync(CERTIFICATE), key: readFileSync(join(FOLDER, 'key.pem')) };
