"""What was asked, what happened, what comes out?"""
