"""llama.cpp through the C functions of llama-cpp-python: logits, chosen experts, tokens, quantising."""
import ctypes
import pathlib

import llama_cpp
import numpy as np

LIBRARY = pathlib.Path(llama_cpp.__file__).parent / "lib"
AUTO_FLASH, NO_FLASH = -1, 0  # whether attention is fused
F32, F16 = 0, 1  # of the cache

said = []  # what llama.cpp logged as warnings and errors since the last load


@llama_cpp.llama_log_callback
def _log(level, text, _):
    if level >= 3:
        said.append(text.decode(errors="replace").strip())


llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))
llama_cpp.llama_backend_init()

_ggml = ctypes.CDLL(str(LIBRARY / "libggml-base.so"))
_ggml.ggml_get_name.restype, _ggml.ggml_get_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
_ggml.ggml_nbytes.restype, _ggml.ggml_nbytes.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
_ggml.ggml_backend_tensor_get.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]


class LoadError(Exception):
    """What llama.cpp said when it did not load a file."""


class Model:
    """A loaded file; `with Model(path) as model`."""

    def __init__(self, path, vocab_only=False, pre=None):
        """pre: read as if the file's tokenizer.ggml.pre said so."""
        said.clear()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = vocab_only
        if pre:
            overrides = (llama_cpp.llama_model_kv_override * 2)()  # an empty key ends them
            overrides[0].key, overrides[0].tag = b"tokenizer.ggml.pre", llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR
            overrides[0].value.val_str = pre.encode()
            params.kv_overrides = overrides
        self.handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise LoadError("; ".join(said) or "no reason given")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self.handle)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocabulary)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_model_free(self.handle)

    def tokenize(self, text, special=False, add_special=False):
        raw = text.encode()
        room = len(raw) + 16
        ids = (llama_cpp.llama_token * room)()
        n = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), ids, room, add_special, special)
        if n < 0:
            raise ValueError(f"{-n} tokens of {len(raw)} bytes")
        return ids[:n]


class Context:
    """A model with room for tokens; positions go on from call to call. The cache is F32 and attention is not fused, for
    exact comparisons, unless it says otherwise."""

    def __init__(self, model, size, threads=2, flash=NO_FLASH, cache=F32, watch=None, embeddings=False):
        self.model, self.position = model, 0
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = size
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type, params.type_k, params.type_v = flash, cache, cache
        params.swa_full, params.embeddings = True, embeddings
        self._watch = llama_cpp.ggml_backend_sched_eval_callback(watch) if watch else None
        if self._watch:
            params.cb_eval = self._watch
        self.handle = llama_cpp.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise LoadError("; ".join(said) or "no context")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        llama_cpp.llama_free(self.handle)

    def forget(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.handle), True)
        self.position = 0

    def _batch(self, tokens, all_logits):
        count = len(tokens)
        batch = llama_cpp.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, self.position + i, 1, 0
            batch.logits[i] = all_logits or i == count - 1
        return batch

    def _run(self, function, tokens, all_logits):
        batch = self._batch(tokens, all_logits)
        status = function(self.handle, batch)
        llama_cpp.llama_batch_free(batch)
        if status != 0:
            raise ValueError(f"{function.__name__} gave {status}")

    def encode(self, tokens):
        """Runs an encoder over one text."""
        self._run(llama_cpp.llama_encode, tokens, True)

    def feed(self, tokens, all_logits=True):
        """Logits of every token [T, V], or of the last [1, V]."""
        self._run(llama_cpp.llama_decode, tokens, all_logits)
        self.position += len(tokens)
        rows = len(tokens) if all_logits else 1
        got = llama_cpp.llama_get_logits(self.handle)
        return np.ctypeslib.as_array(got, shape=(rows * self.model.vocab_size,)).reshape(rows, -1).copy()


class Experts:
    """Watches a computation and keeps, by layer, the chosen experts of each token."""

    def __init__(self, experts, top_k):
        self.experts, self.top_k, self.chosen = experts, top_k, {}

    def __call__(self, tensor, asking, _):
        name = _ggml.ggml_get_name(tensor).decode()
        if not name.startswith("ffn_moe_topk-"):
            return not asking
        if not asking:  # a view of the sorted ids: rows of all experts, the first top_k count
            raw = np.zeros(_ggml.ggml_nbytes(tensor), dtype=np.uint8)
            _ggml.ggml_backend_tensor_get(tensor, raw.ctypes.data_as(ctypes.c_void_p), 0, raw.size)
            ids, each = raw.view(np.int32), self.experts
            tokens = (ids.size - self.top_k) // each + 1
            self.chosen[int(name.split("-")[1])] = [ids[t * each:t * each + self.top_k].tolist() for t in range(tokens)]
        return True


def logits(path, tokens, experts=0, top_k=0):
    """Logits [T, V] and, by layer, the chosen experts."""
    watch = Experts(experts, top_k) if experts else None
    with Model(path) as model, Context(model, max(len(tokens), 64), watch=watch) as context:
        values = context.feed(tokens)
    return values, watch.chosen if watch else {}


def embeddings(path, texts, threads=2):
    """Pooled embeddings of length one [texts, H], as the file says to pool."""
    out = []
    with Model(path) as model, Context(model, 512, threads, embeddings=True) as context:
        width = llama_cpp.llama_model_n_embd(model.handle)
        for text in texts:
            ids = model.tokenize(text, add_special=True)[:512]
            context.encode(ids)
            vector = np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_seq(context.handle, 0), shape=(width,))
            out.append(vector / np.linalg.norm(vector))
    return np.array(out)


def save(source, target):
    """The file as llama.cpp writes it."""
    with Model(source) as model:
        llama_cpp.llama_model_save_to_file(model.handle, str(target).encode())


def quantize(source, target, file_type, threads=2, pure=False):
    """By llama.cpp's own rules. file_type: of `general.file_type`. pure: the one type wherever it fits."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.pure = file_type, threads, pure
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params))
    if status != 0:
        raise ValueError(f"llama_model_quantize gave {status}: {'; '.join(said)}")
