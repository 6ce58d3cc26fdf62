"""How is one genome made from others?"""
