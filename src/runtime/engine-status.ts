/** The state of the engine on this machine, whether it can be loaded or not. */
import { existsSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { EngineError } from '../errors.ts';
import { engineVersion, libraryPath } from './binding.ts';
import { cudaLibraryPath, type DeviceInfo, listDevices } from './device.ts';
import { type Libc, libc } from './libc.ts';
import { type CpuInfo, cpuInfo } from './machine.ts';
import { ADDON, findNativeFile, type NativeFile } from './native-files.ts';
import { packageFolder } from './ort.ts';

export interface EngineStatus {
  readonly addon: NativeFile;
  /** Undefined off Linux. */
  readonly libc: Libc | undefined;
  readonly library: LibraryFile;
  /** Undefined where the engine cannot be loaded; `fault` then says why, and what to do. */
  readonly working: { readonly version: string; readonly cpu: CpuInfo } | undefined;
  readonly fault: string | undefined;
}

export interface LibraryFile {
  /** Symbolic links followed, as the loader does; undefined where onnxruntime-node has none for this platform. */
  readonly path: string | undefined;
  readonly found: boolean;
  /** Whether SWITCHYARD_ONNXRUNTIME names it. */
  readonly fromEnvironment: boolean;
  /** Script of onnxruntime-node that fetches its CUDA provider. */
  readonly installer: string | undefined;
  /** Switchyard's CUDA library, be it built or not. */
  readonly cudaLibrary: string;
}

/** Loads the engine if it can be loaded. */
export function engineStatus(): EngineStatus {
  const found = { addon: findNativeFile(ADDON), libc: libc(), library: libraryFile() };
  try {
    const working = { version: engineVersion(), cpu: cpuInfo() };
    return { ...found, working, fault: undefined };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { ...found, working: undefined, fault: error.message };
  }
}

/** What Switchyard's CUDA library finds when it is asked. */
export interface CudaDevices {
  readonly devices: readonly DeviceInfo[];
  /** Why it cannot be asked; undefined where it can, and where it is not built. */
  readonly fault: string | undefined;
}

/** Opens the CUDA library, if it is built, and lists the GPUs it could use. */
export async function cudaDevices(): Promise<CudaDevices> {
  if (!existsSync(cudaLibraryPath())) return { devices: [], fault: undefined };
  try {
    return { devices: await listDevices(), fault: undefined };
  } catch (error) {
    if (!(error instanceof EngineError)) throw error;
    return { devices: [], fault: error.message };
  }
}

/** Where the engine's library is; nothing is loaded. */
export function libraryFile(): LibraryFile {
  const path = orUndefined(libraryPath);
  const found = path !== undefined && existsSync(path);
  const folder = orUndefined(packageFolder);
  return {
    path: found ? realpathSync(path) : path,
    found,
    fromEnvironment: Boolean(process.env.SWITCHYARD_ONNXRUNTIME),
    installer: folder && join(folder, 'script', 'install.js'),
    cudaLibrary: cudaLibraryPath(),
  };
}

function orUndefined(path: () => string): string | undefined {
  try {
    return path();
  } catch (error) {
    if (error instanceof EngineError) return undefined;
    throw error;
  }
}
