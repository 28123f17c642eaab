"""Drawn people with 17 exact keypoints."""
