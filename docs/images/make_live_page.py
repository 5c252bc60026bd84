"""Makes live-page.png, a screenshot of the web viewer on the sample clip played over and over:

ffmpeg -stream_loop 8 -i samples/colonoscopy.mp4 -c copy colonoscopy.mp4
qtseg-edge run --source colonoscopy.mp4 --realtime --output web://127.0.0.1:8080 &
python docs/images/make_live_page.py http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
# A lesion that is neither a speck nor the whole picture, with its event, when the plots have something to show.
_READY = """seconds => performance.now() > seconds * 1000 && document.querySelector("#events li.open")
  && Number(document.querySelector("#share").textContent) > 4 && Number(document.querySelector("#share").textContent) < 30"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("live-page.png"))
    parser.add_argument("--seconds", type=float, default=62, help="how long to look before")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(options.url)
        page.wait_for_function(_READY, arg=options.seconds, timeout=(options.seconds + 60) * 1000)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        ImageOps.posterize(picture, 6).save(options.output, optimize=True)  # nobody sees the difference, and it is a third smaller
        browser.close()


if __name__ == "__main__":
    main()
