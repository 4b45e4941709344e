"""The endpoints besides chat."""

import openai


def test_models(client, model):
    models = list(client.models.list())
    assert model in [m.id for m in models]
    assert all(m.object == "model" for m in models)


def test_models_async(url, model):
    import asyncio

    async def listed():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-test", max_retries=0) as client:
            return [m.id async for m in client.models.list()]

    assert model in asyncio.run(listed())


def test_completion(client, model):
    answer = client.completions.create(model=model, prompt="1, 2, 3, 4, 5,", max_tokens=6, temperature=0)
    assert answer.object == "text_completion"
    assert "6" in answer.choices[0].text
    assert answer.usage.completion_tokens == 6


def test_completion_stream(client, model):
    chunks = list(client.completions.create(model=model, prompt="1, 2, 3, 4, 5,", max_tokens=6, temperature=0, stream=True))
    assert "6" in "".join(c.choices[0].text for c in chunks if c.choices)
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
