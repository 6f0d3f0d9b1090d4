"""Rules of the literature for choosing a mixture, as allocation agents: one file each."""
