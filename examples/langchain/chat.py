"""Streams an answer through a LangChain chain; the model reads OPENAI_BASE_URL and OPENAI_API_KEY, the client key."""

import os
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import APIError

model = ChatOpenAI(
    model=os.environ.get("OPENAI_MODEL", "demo"),
    max_retries=0,  # the proxy has repeated what failed at a server; a throttle is for the user to see
)
prompt = ChatPromptTemplate.from_messages([("system", "Answer in one paragraph."), ("user", "{question}")])
chain = prompt | model | StrOutputParser()

if __name__ == "__main__":
    try:
        for text in chain.stream({"question": sys.argv[1] if len(sys.argv) > 1 else "Tell me about proxies"}):
            print(text, end="", flush=True)
        print()
    except APIError as error:
        # Refusals and streams that break off half-way both end here; `code` is what a program can rely on.
        sys.exit(f"\n{error.code}: {error.message}")
