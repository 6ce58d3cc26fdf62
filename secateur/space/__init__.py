"""What can be tried, what does it cost, what is an evaluation?"""
