"""Quality measures: pure functions of frames, and classes that average them in constant memory.

preservation.py   PSNR, SSIM, LPIPS, exactness, over the frame and outside alpha
perceptual.py     LPIPS, with weights that the user provides
video.py          temporal flicker, unsteadiness, sharpness
matting.py        MAD, MSE, Grad, Conn, dtSSD
judge.py          questions to a vision-language model that the user provides

Pictures are (H, W, 3) and alphas (H, W), display-encoded values in [0, 1], numpy or torch. All computation is in fp64.
Every class has `add`, called once per frame in order, and `figures`, the means over frames by name. None means not
measured.
"""
