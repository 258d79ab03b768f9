"""What runs inside the ramdisk: single files, copied there; nothing of Seed is imported by them."""
