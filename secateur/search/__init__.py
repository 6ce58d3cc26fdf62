"""Which genomes are tried next?"""
