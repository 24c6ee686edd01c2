# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false
import os
import sys

import instructor
from openai import OpenAI
from pydantic import BaseModel


class City(BaseModel):
    city: str


model, streams = sys.argv[1], sys.argv[2] == "stream"
# settings
client = instructor.from_openai(OpenAI(base_url=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]))
# end
asked = {"model": model, "messages": [{"role": "user", "content": "Where?"}], "response_model": City}
print(list(client.create_partial(**asked))[-1].city if streams else client.create(**asked).city)
