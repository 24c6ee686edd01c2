"""The search of a vector store: pieces of files, those with the most words of the question first. Pure."""

import re
from collections.abc import Sequence
from typing import Any

from local.demo.kept.files import StoredFile
from local.demo.kept.filters import fits
from local.demo.kept.shelf import Object
from local.demo.replies import Body, RefusedError, list_of, object_of

_TOKEN = re.compile(r"\s*\S+")
_WORD = re.compile(r"\w+")
_DEFAULT = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
_MOST_RESULTS, _USUAL_RESULTS = 50, 10


def chunking_of(given: Any) -> Object:
    """How a file is cut into pieces. Raises RefusedError."""
    fields = object_of(given)
    if given is None or fields.get("type") == "auto":
        return _DEFAULT
    static = object_of(fields.get("static"))
    size, overlap = static.get("max_chunk_size_tokens"), static.get("chunk_overlap_tokens")
    if not (isinstance(size, int) and isinstance(overlap, int) and 100 <= size <= 4096 and 0 <= overlap <= size // 2):
        message = (
            "'chunking_strategy' is auto, or static with 'max_chunk_size_tokens' from 100 to 4096 and "
            "'chunk_overlap_tokens' of at most half of that."
        )
        raise RefusedError(400, message, "chunking_strategy", "invalid_value")
    return {"type": "static", "static": {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}}


def found(body: Body, files: Sequence[tuple[Object, StoredFile]]) -> Object:
    """One page of pieces. A score is the share of the question's words that a piece has. Raises RefusedError."""
    queries = [str(each) for each in list_of(body["query"])] or [str(body["query"])]
    most = body.get("max_num_results", _USUAL_RESULTS)
    if not isinstance(most, int) or not 1 <= most <= _MOST_RESULTS:
        raise RefusedError(400, f"'max_num_results' is not a number from 1 to {_MOST_RESULTS}.", "max_num_results")
    least = object_of(body.get("ranking_options")).get("score_threshold") or 0.0
    results = [
        result
        for about, file in files
        if fits(about["attributes"], body.get("filters"))
        for result in _pieces(about, file, {word for query in queries for word in _words(query)})
        if result["score"] > 0 and result["score"] >= least
    ]
    results.sort(key=lambda result: -result["score"])
    told = {"object": "vector_store.search_results.page", "search_query": queries}
    return {**told, "data": results[:most], "has_more": len(results) > most, "next_page": None}


def _pieces(about: Object, file: StoredFile, wanted: set[str]) -> Sequence[Object]:
    static = about["chunking_strategy"]["static"]
    size, step = static["max_chunk_size_tokens"], static["max_chunk_size_tokens"] - static["chunk_overlap_tokens"]
    tokens = _TOKEN.findall(file.content.decode())
    overlap = size - step
    texts = ["".join(tokens[at : at + size]).strip() for at in range(0, max(1, len(tokens) - overlap), step)]
    common = {"file_id": about["id"], "filename": file.about["filename"], "attributes": about["attributes"]}
    scores = [len(wanted & _words(text)) / len(wanted) if wanted else 0.0 for text in texts]
    return [
        {**common, "score": score, "content": [{"type": "text", "text": text}]}
        for text, score in zip(texts, scores, strict=True)
    ]


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
