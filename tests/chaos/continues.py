"""That a llama-server goes on with the beginning of an answer as it would have gone on by itself, and does not say it again.

Resuming rests on this (`continue_final_message`), and no promise of the server's says so.
"""

import client

TOOL = {"type": "function", "function": {"name": "ls", "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}}}
QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]
TOKENS = 40


async def pieces(url: str, body: dict) -> list[str]:
    """The texts of a streamed answer, a token each."""
    answer = await client.ask(url, body | {"stream": True, "temperature": 0})
    if not answer.finished:
        raise client.Broken(f"status {answer.status}, error {answer.error!r}, after {answer.pieces} pieces")
    return answer.said


async def check(url: str) -> list[str]:
    """Returns what went wrong."""
    wrong = []
    for body in ({}, {"tools": [TOOL]}):
        whole = await pieces(url, body | {"messages": QUESTION, "max_tokens": TOKENS})
        for at in (5, 15, 30):
            begun = {"role": "assistant", "content": "".join(whole[:at])}
            goes_on = {"add_generation_prompt": False, "continue_final_message": True, "max_tokens": TOKENS - at}
            rest = await pieces(url, body | goes_on | {"messages": [*QUESTION, begun]})
            if rest != whole[at:]:
                wrong.append(f"after {at} tokens it goes on with {''.join(rest)!r} instead of {''.join(whole[at:])!r}")
    print(f"\nA server goes on with 6 beginnings of answers as by itself: {'no' if wrong else 'yes'}")
    return wrong
