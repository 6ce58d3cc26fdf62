"""What is a genome worth?"""
