/** Where a repo's files come from; the fields mirror `from_pretrained`. */
export interface HubOptions {
  /** Branch, tag or commit. Default `main`; resolved once to a commit for the whole load. */
  revision?: string;
  /** Access token; default from `HF_TOKEN` or the token file. */
  token?: string;
  /** Cache folder; default from the environment, as in huggingface_hub. */
  cacheDir?: string;
  /** Folder inside the repo. */
  subfolder?: string;
  /** Never touch the network. */
  localFilesOnly?: boolean;
  /** Fetch again what is already cached. */
  forceDownload?: boolean;
  onProgress?: (event: ProgressEvent) => void;
  /** Called with a clause about each thing worth knowing that is no fault, such as a retry; default: a process warning. */
  onWarning?: (message: string) => void;
  signal?: AbortSignal;
}

/** One report of a download, of rounding weights, or of a load in progress. Bytes are of this file; `total*` of all files of the load. */
export interface ProgressEvent {
  stage: 'download' | 'quantize' | 'load';
  file: string;
  loadedBytes: number;
  fileBytes: number;
  totalLoadedBytes: number;
  totalBytes: number;
}

/** What may differ between the uses of one resolved repo. */
export type RepoOptions = {
  readonly [K in 'signal' | 'onProgress' | 'onWarning']?: HubOptions[K] | undefined;
};

/** A file of a repo, here or on the Hub. */
export interface RepoFile {
  /** Bytes. */
  readonly size: number;
  /** Absolute path, where it is on this disk. */
  readonly path?: string;
}

/** A repo or folder, pinned to one commit. Files are fetched when first asked for. */
export interface Repo {
  /** The id or folder as the caller gave it, for messages. */
  readonly id: string;
  /** Commit hash, or undefined for a plain folder. */
  readonly commit: string | undefined;
  /** Absolute path of a file on this disk (downloaded if need be), or undefined where the repo has no such file. */
  file(name: string): Promise<string | undefined>;
  /** As `file`, but a missing file is a `HubError` that names it. */
  require(name: string): Promise<string>;
  /** Several files at once, fetched concurrently; every missing one is named in one `HubError`. */
  requireAll(names: readonly string[]): Promise<string[]>;
  /** What is known of a file without fetching it; undefined where the repo has no such file. */
  look?(name: string): Promise<RepoFile | undefined>;
  /** Folder of the cache that files are fetched into; absent where nothing is fetched. */
  readonly cacheFolder?: string;
  /** Names of the files in one of its folders, without the folder; none where there is no such folder. */
  filesIn?(folder: string): Promise<readonly string[]>;
  /** What the repo is where it is no checkpoint that loads, and the way on; empty where its file names tell nothing. */
  explain?(): Promise<string>;
  /** The same commit, for a load with a signal and callbacks of its own; those left out stay. */
  with?(options: RepoOptions): Repo;
}
