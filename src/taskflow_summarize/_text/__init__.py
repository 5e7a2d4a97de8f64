"""What can be said of a text without a model: its words, sentences, language, rank."""
