"""What more than one stage of JOANNA needs."""
