"""`relpretrain data show`: an HTML page of samples before and after augmentation, with token spans and MRC's masks."""
