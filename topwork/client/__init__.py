"""The client of the HTTP API, waiting or not: the command line is its first user.

from topwork import Topwork

with Topwork("http://127.0.0.1:8000") as topwork:
    job = topwork.finetune("flowers/", architecture="resnet18", name="flowers").wait()
    print(topwork.predict("rose.jpg", model="flowers")[0].label)
"""

from topwork.client.asynchronous.jobs import AsyncJob
from topwork.client.asynchronous.service import AsyncTopwork
from topwork.client.synchronous.jobs import Job
from topwork.client.synchronous.service import Topwork

__all__ = ["AsyncJob", "AsyncTopwork", "Job", "Topwork"]
