"""From musical notation to sound: scores, instruments, performances, renditions."""
