"""How good a result is: pure functions of frames, and sums of them that grow no memory with the clip.

preservation.py   PSNR, SSIM, LPIPS, exactness, over the frame and outside alpha
perceptual.py     LPIPS, with weights that the user brings
video.py          temporal flicker, unsteadiness, sharpness: what needs no weights
matting.py        MAD, MSE, Grad, Conn, dtSSD
judge.py          questions to a vision-language model that the user brings

Pictures are (H, W, 3) and alphas (H, W), display-encoded values in [0, 1], numpy or torch; all is computed in fp64.
Every class has `add`, once a frame in order, and `figures`, means over frames by name; None is 'not measured'.
"""
