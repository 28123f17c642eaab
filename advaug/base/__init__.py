"""What every room stands on: checks, shapes, precision, files, processes, the SSIM map."""
