import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import * as tls from 'node:tls';

type Environment = Readonly<Record<string, string | undefined>>;

/** Variables by which curl and Python are told of further root certificates. */
const VARIABLES = ['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'];

/** A variable names certificates that cannot be read. */
export class CertificateSettingError extends Error {
  override name = 'CertificateSettingError';
}

const contexts = new Map<string, tls.SecureContext>();

/**
 * What to trust where a variable of curl or Python names root certificates (PEM; a file, or a folder of files): those and
 * Node's own. Undefined where none does, and Node's defaults hold.
 *
 * @throws CertificateSettingError naming the variable and the file
 */
export function trustedContext(env: Environment = process.env): tls.SecureContext | undefined {
  const set = VARIABLES.filter((name) => env[name]);
  if (set.length === 0) return undefined;
  const key = set.map((name) => `${name}=${env[name]}`).join('\n');
  let context = contexts.get(key);
  if (context === undefined) {
    const further = set.flatMap((name) => readCertificates(name, env[name] as string));
    context = tls.createSecureContext({ ca: [...nodeCertificates(env), ...further] });
    contexts.set(key, context);
  }
  return context;
}

/** Node's roots; naming others replaces them, so they are named, too. */
function nodeCertificates(env: Environment): string[] {
  // Node 22.15 and later can say what its flags and variables have come to.
  const current = (tls as { getCACertificates?: (kind: 'default') => string[] }).getCACertificates;
  if (current) return current('default');
  const extra = env.NODE_EXTRA_CA_CERTS;
  return [...tls.rootCertificates, ...(extra ? readCertificates('NODE_EXTRA_CA_CERTS', extra) : [])];
}

function readCertificates(variable: string, path: string): string[] {
  let texts: string[];
  try {
    const isFolder = statSync(path).isDirectory();
    const files = isFolder ? readdirSync(path).map((name) => join(path, name)) : [path];
    texts = files
      .filter((file) => !isFolder || statSync(file).isFile())
      .map((file) => readFileSync(file, 'utf8'));
  } catch (error) {
    throw new CertificateSettingError(
      `${variable} names root certificates that cannot be read: ${(error as Error).message}`,
      { cause: error },
    );
  }
  const found = texts.filter((text) => text.includes('-----BEGIN '));
  if (found.length > 0) return found;
  throw new CertificateSettingError(
    `${variable} is ${path}, which holds no certificate in PEM form ("-----BEGIN CERTIFICATE-----")`,
  );
}
